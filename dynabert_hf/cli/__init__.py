"""What the command `dynabert` does and prints."""
