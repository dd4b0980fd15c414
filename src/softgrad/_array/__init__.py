"""What an array is: its library, its arguments, how it moves, and the errors raised about it."""
