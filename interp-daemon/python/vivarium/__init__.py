"""The worker of Vivarium: Python code behind glass.

`python3 -m vivarium.worker` is started by the supervisor; nothing here is for handlers to import.
"""
