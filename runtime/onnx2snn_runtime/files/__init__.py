"""The only door to disk: models and arrays come in checked, files go out whole."""
