"""docker/compose.yaml on a real engine: stand-ins for the images that it names, and the composition started for real."""
