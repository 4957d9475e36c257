"""Samples to train on: images and clips from folders, lists, shards and caches, and commands that prepare them."""
