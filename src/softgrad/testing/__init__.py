"""What those who embed softgrad import: checks of a back end, checks of a gradient."""
