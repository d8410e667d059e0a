"""Yardsticks: plain functions from features and labels to numbers."""
