"""Images: a filtered signal to one of six representations, 224 x 224 levels and a palette."""
