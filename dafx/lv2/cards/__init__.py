"""What is found out about a plugin: experiments, the card, its gin text."""
