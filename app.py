"""The door: python app.py [--host --port --data --runs --login --mcp --share]; a Space gives none of them."""

import argparse
import ipaddress
import os
import sys
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train small image classifiers and use them, in the browser.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    on_space = "SPACE_ID" in os.environ
    parser.add_argument("--host", default="0.0.0.0" if on_space else "127.0.0.1", help="address to serve on")
    parser.add_argument("--port", type=int, default=7860, help="port to serve on")
    parser.add_argument("--data", help="cifar10, synthetic, or the path of a folder or a zip; offered first")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument(
        "--checkpoints", type=Path, default=CHECKPOINTS, help="folder of the networks offered"
    )
    parser.add_argument("--login", metavar="NAME:PASSWORD", help="ask for this login; it allows training")
    parser.add_argument("--mcp", action="store_true", help="also offer the API as tools for agents (MCP)")
    parser.add_argument("--share", action="store_true", help="make a public address")
    return parser.parse_args()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the server."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def complain(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def main() -> None:
    args = options()
    login = None
    if args.login:
        name, colon, password = args.login.partition(":")
        if not (name and colon and password):
            complain("--login takes NAME:PASSWORD.")
        login = (name, password)

    from core import InputError
    from core.data import require_source
    from core.device import prepare_for_serving
    from demo.lab import Lab
    from demo.page import build_page, launch_options

    prepare_for_serving()
    private = is_loopback(args.host) and not args.share
    try:
        if args.data is not None:
            require_source(args.data)
        args.runs.mkdir(parents=True, exist_ok=True)
        lab = Lab(args.runs, args.data, private or login is not None, args.checkpoints)
        if lab.can_train:
            lab.watch_queue()
        page = build_page(lab)
        page.launch(
            server_name=args.host,
            server_port=args.port,
            share=args.share,
            auth=login,
            mcp_server=args.mcp,
            **launch_options(),
        )
    except InputError as error:
        complain(str(error))
    except OSError as error:
        complain(str(error).splitlines()[0])


if __name__ == "__main__":
    main()
