"""What runs while a `Hodei` is open: the dispatcher and its parts."""
