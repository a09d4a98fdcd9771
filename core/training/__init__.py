"""Training: recipe -> Trainer -> events. Nothing here writes a file or knows who listens."""
