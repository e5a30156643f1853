"""Answers: profile queries over what the fold has written. It never writes anything but query sessions."""
