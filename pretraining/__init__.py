"""How the bundled weights were made: data, objectives, training loop. No part of the installed package."""
