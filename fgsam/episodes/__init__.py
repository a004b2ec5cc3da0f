"""Class splits, episodes and banks: the data of few-shot learning."""
