"""What goes to the Hub: cards and pushes."""
