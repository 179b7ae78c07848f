"""What `media/build` is made of."""
