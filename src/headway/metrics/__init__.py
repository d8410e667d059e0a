"""Evaluation metrics: plain functions from features and labels to numbers."""
