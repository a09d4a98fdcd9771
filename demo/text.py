"""Every sentence a person reads on the page."""

from core.data.cifar10 import DOWNLOAD_MB

TITLE = "CIFAR Lab"
TAGLINE = "Train a small image classifier, see where it is wrong, try it on your own pictures."

THEME = "Light / dark"
TAB_TRAIN, TAB_RESULTS, TAB_CLASSIFY = "Train", "Results", "Classify"

# Train
NETWORK, DATA, PRESET = "Network", "Data", "Preset"
MORE = "More settings"
EPOCHS, BATCH, RATE, SEED = "Epochs", "Batch size", "Peak learning rate", "Seed"
EPOCHS_INFO = "Passes over the training images."
BATCH_INFO = "Images a step."
RATE_INFO = "At its highest."
SEED_INFO = "The same seed gives the same run."
START = "Start training"
START_FROM, RANDOM_WEIGHTS = "Begin with", "random weights"
NO_RUNS = "No training yet. Choose a network and press Start."
STARTED = "Training has started. It goes on when you close this page."
STOPPING = "Stopping: it saves first, so that it can be resumed."
LOOK_ONLY = "On this server you can look and classify. Training is for those who log in or run it at home."
PRESET_NOTES = {
    "quick": "Something to see in a minute or two: few or small images.",
    "fast": "About ten passes, from small images to full size.",
    "accurate": "Eighty passes with strong augmentation. Made for a GPU.",
    "classic": "What the well-known scripts do: 200 passes, cosine schedule.",
}
CIFAR_MISSING = f"CIFAR-10 is not on this machine yet ({DOWNLOAD_MB} MB)."
DOWNLOAD = f"Download CIFAR-10 ({DOWNLOAD_MB} MB)"
DATA_READY = "Ready."
DATA_LATER = "Its pictures are decoded at the first start, with progress; after that it starts at once."
NO_DATA = "There is no such data set."
YOUR_DATA = "Your own pictures"
UPLOAD = "A zip with a folder for each class"
UPLOAD_NOTE = "Laid out `train/CLASS/*` and `test/CLASS/*`, or only `CLASS/*`. At most 500 MB."
UPLOAD_AS, UPLOAD_ADD, UPLOAD_REMOVE = "Keep it as", "Add", "Remove this data set"
UPLOAD_NAME = "Give it a name of at most 40 letters, digits, spaces, - and _."
UPLOAD_TAKEN = "There is a data set '{name}' already. Choose another name."
UPLOAD_ZIP = "Give a .zip file of at most 500 MB."
UPLOAD_NONE = "Choose a zip first."
UPLOAD_DONE = "Added: '{name}' is now a data set like any other."
UPLOAD_ABOUT = "{train} training and {test} test images, {classes} classes."
UPLOAD_SKIPPED = "{count} files could not be read and are left out."
SURE_REMOVE = "Removed. Runs that used it keep their numbers."
SYNTHETIC_NOTE = "Ten shapes drawn by the program. Needs no network connection."
PREPARING = "Preparing"
STAGES = {
    "download": "Downloading",
    "decode": "Decoding pictures",
    "draw": "Drawing pictures",
    "evaluate": "Evaluating",
    "classify": "Classifying",
}
STATUS = {
    "queued": "queued",
    "running": "running",
    "paused": "paused",
    "stopped": "stopped",
    "finished": "finished",
    "failed": "failed",
    "cancelled": "cancelled",
    "unreadable": "unreadable",
}
LOSS, ACCURACY = "Loss", "Accuracy"
EACH_CLASS, CLASS_MAP = "Each class over the epochs", "The same as a map"
SPEED, SEES_NOW, FILTERS = "Learning rate and speed", "What it sees now", "Filters of its first layer"
FILTERS_NOTE = "What the first layer looks for; mid-grey is no weight."
SMOOTHING, LOG_AXIS, FOLLOW = "smoothing", "log", "follow"
ACTIONS = {
    "pause": "Pause",
    "stop": "Stop",
    "resume": "Resume",
    "up": "Earlier",
    "down": "Later",
    "clone": "Use its settings",
    "delete": "Delete",
}
SURE_DELETE = "Really delete?"
EXPORTS = {"csv": "Curves (CSV)", "json": "Settings (JSON)", "command": "Command"}
IN_LINE = "number {place} in line"
WAITED = "waited {time}"
LEFT = "{time} left"
QUEUED = "It waits in line and starts as soon as the device is free."
PAUSING = "Pausing: it saves first."
RESUMED = "It goes on, or waits in line for the device."
DELETED = "Deleted."
CLONED = "Its settings are in the form."
ALL_RUNS = "All runs"
RUN_COLUMNS = {
    "model": "Network", "data": "Data", "preset": "Preset", "status": "Status", "accuracy": "Accuracy",
    "seconds": "Time", "created": "Started",
}  # fmt: skip
FILTER_RUNS = "Filter"
TICK_RUNS = "Tick runs to lay their curves over one another."
AGAINST = "Against"
SHIPPED, SHIPPED_NETWORK = "shipped", "{title} (shipped)"
UNITS = {"step": "steps", "epoch": "epochs", "seconds": "seconds"}
MAX_COMPARED = "At most {count} runs can be laid over one another."

# Results
CHECKPOINT = "Network to look at"
NO_CHECKPOINTS = (
    "There is no trained network yet. Train one on the first tab; synthetic shapes take a minute."
)
PER_CLASS = "Accuracy of each class"
NO_REPORT = "This network has not been tested yet. It is tested when its training is finished."
COMPARE_WITH = "Compare with"
COURSE_REPORT = "course report"
SHOW_COURSE_REPORT = "The course report's figures"
ORDER, BY_CLASS, BY_ACCURACY = "Order", "by class", "by accuracy"
CONFUSION = "What is taken for what"
CONFUSION_NOTE = "Click a cell, or a bar above, to see its pictures."
CELLS, COUNTS, SHARES = "Cells", "pictures", "percent"
CALIBRATION = "Is it as right as it is sure?"
CONFIDENCE = "how sure it is"
AS_SURE_AS_RIGHT = "as right as sure"
BEFORE_TEMPERATURE, AFTER_TEMPERATURE = "as trained", "at temperature {t:.2f}"
CONFUSED = "Most confused"
CONFUSED_PAIR = "{truth} taken for {prediction}: {count}"
DIFFERENCE = "Difference {points}. "
BY_CHANCE = "Two equally good networks differ as much with probability {p}."
SAME_PICTURES_NEEDED = "Whether that is chance can be told once both have answered about the same pictures."
CELL_TITLE = "{truth} taken for {prediction}: {count} pictures"
ROW_TITLE = "{truth}: {count} pictures, mistakes first"
ALL_TITLE = "All {count} test pictures, mistakes first"
PAGE, EARLIER, LATER = "Page {page} of {pages}", "Earlier", "Later"
SURE_OF_IT = "{p} sure"
HOW_LOSS, HOW_ACCURACY = "How it learned: loss", "How it learned: accuracy"
BEGAN_WITH = "begun with {file} ({epochs} epochs, {time})"
RECALL_NOTE = "Precision: of what was taken for the class, the share that is."
PRECISION, F1, INTERVAL = "Precision", "F1", "95% between"
REPORT_EXPORTS = {"report-json": "Report (JSON)", "report-csv": "Classes (CSV)"}
SHOW_PICTURES = "Show the test pictures"
STRIP_NEEDS_DATA = "The pictures of '{name}' are not on this machine; the numbers don't need them."
STRIP_INSTEAD = "Choose {data} under '{choice}' to test it on those."
TRUTH, PREDICTION, TRUTH_IS = "truth", "said", "Truth: {label}"
TESTED_ON, ITS_OWN = "Test pictures of", "{data} (its own)"
NOT_EVALUATED = "Not tested on the pictures of '{data}' yet."
EVALUATE, CANCEL, CANCELLED = "Test it now", "Cancel", "Cancelled."
OTHER_CLASSES = "The classes of '{data}' are not those the network knows."
NO_TEST_IMAGES = "'{data}' has no test images."
JOB_FAILED = "This could not be done ({kind})."
ONLY_BUTTONS = "Only {name} right: {count}"
ONLY_FIRST = "{count} pictures that only the first network gets right"
ONLY_SECOND = "{count} pictures that only the second network gets right"
ASK_BOTH = "Ask both about the same pictures"
OTHER_NETWORK, DIFFERENCE_HEAD = "The other", "Difference"
LOOK_CLOSER = "Look closer at test picture {index}"
SPEAKS_FOR = "what speaks for {label}"
HEAT_NOTE = "Bright: where the network finds what speaks for the class (Grad-CAM). Dark: what it ignores."
CLOSE = "Close"
COSTS = "What it costs"
COST_HEADS = ("Network", "Parameters", "File", "Multiply-adds an image", "Images a second here")
MEASURE = "Measure the speed"
MEASURED_NOTE = "Speed: whole batches on this server, now, beside whatever else it does."
CLASS, COUNT = "Class", "Test pictures"

# Classify
PICTURE = "Drop, paste or take a picture"
EXAMPLES = "Or try one of these"
EXPLAIN = "Drop a picture to see what the network takes it for."
SEES = "What the network sees: {size} x {size} pixels"
ENLARGE = "Show it large"
SURE = "{a}."
UNSURE = "Unsure between {a} and {b}."
NONE = "None of these {count}: it does not look like what the network was trained on."
AGREE = "{a}: both networks agree."
AGREE_ONE_SURE = "Both think of {a} first, only {title} is sure."
AGREE_UNSURE = "Both think of {a} first, neither is sure."
DISAGREE, ONE_SAYS = "They disagree: {said}.", "{title} says {a}"
ALL_NONE = "None of these {count}, both networks agree."
SOME_NONE = "{title} says {a}; to {other} it is none of these."
SOME_NONE_UNSURE = "{title} thinks of {a} first and is not sure; to {other} it is none of these."
NEVER_NONE = "It can't say “none of these”: too few pictures were kept aside when it was trained."
BAD_PICTURE = "This file can't be used: {reason}."
NO_PICTURE = "There is no picture."
NO_ADDRESSES = (
    "Addresses of pictures are not fetched here. Upload the picture (an agent may give a data: address)."
)
BAD_TOP = "top is how many classes are returned: 1 or more."
BESIDE, NOTHING = "Beside it", "nothing"
SIMILAR = "Most similar to the network, of {count} training pictures:"
FRAME = "Choose the part that counts"
FRAME_NOTE = "All of it counts. Make the frame smaller and drag it over a part, or use the arrow keys."
YOUR_PICTURE, FRAME_MOVE, FRAME_SIZE = "Your picture", "The part that counts; arrow keys move it", "Size"
HEAT_OF, HEAT_OF_SAID = "Show what speaks for", "what it says"
BREAK_IT = "Try to break it"
BREAK_NOTE = "Harm the picture and see when the answer gives way. In pixels of what the network sees."
NOISE, BLUR, BRIGHTNESS, QUALITY, ROTATION = "Noise", "Blur", "Brightness", "JPEG quality", "Rotation"
RESET = "As it was"
MANY = "Many pictures at once"
MANY_FILES, MANY_FOLDER = "Pictures, or a zip of pictures", "Choose a folder"
MANY_NOTE = "Each is looked at once, without its mirror image."
MANY_START, MANY_CSV, MANY_FILE = "Classify them all", "All answers (CSV)", "answers.csv"
WAITING = "Waiting for its turn…"
MANY_DONE = "Pictures: {count}."
MANY_LIMIT = "At most {pictures} pictures and {archives} archives at once."
MORE_ROWS = "The first {shown} of {count}; the CSV has all."
FILE = "File"


def percent(share: float) -> str:
    """A fraction as percent with one decimal."""
    return f"{share * 100:.1f} %"


def duration(seconds: float) -> str:
    """Seconds in the largest units that matter: '1 h 52 min', '3 min 20 s', '8 s'."""
    whole = max(round(seconds), 0)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    if minutes >= 10:
        return f"{minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def size(bytes_: int) -> str:
    """Bytes in MB: '44.7 MB'."""
    return f"{bytes_ / 1e6:.1f} MB"


def count(number: float) -> str:
    """A count with a thin grouping: 11,173,962."""
    return f"{number:,.0f}"


def short_count(number: int) -> str:
    """A count in a few characters: 62 K, 11.2 M."""
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number / 1e3:.0f} K"
