"""Models by name: packages of npm, the Hugging Face Hub, and the user's model folder.

It imports `checkpoints` and the networks; `loading` imports it.
"""
