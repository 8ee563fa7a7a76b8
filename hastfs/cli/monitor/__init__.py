"""`hastctl monitor`: a live view of resources on the whole terminal.

`rates` (what happened between two looks), `keys`, `scene` (what is shown, and what a key does) and `view` (as text)
are pure; `terminal` takes the terminal and gives it back, `app` (trio) asks hastd and draws.
"""
