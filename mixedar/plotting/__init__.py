"""
Pictures of fits; matplotlib is imported only when one is drawn.
"""
