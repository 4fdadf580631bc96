"""Recipes: one file an experiment; read it and you know it."""
