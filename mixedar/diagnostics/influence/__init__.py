"""What deleting a group changes."""
