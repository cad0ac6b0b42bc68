"""Tests that need PyTorch: every layer and model against its twin."""
