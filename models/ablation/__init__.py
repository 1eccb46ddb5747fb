"""What each part of a head is worth: rows that change one thing, over several seeds."""
