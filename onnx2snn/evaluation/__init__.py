"""Accuracy, agreement, spikes and energy on a data set, whoever measures the batches."""
