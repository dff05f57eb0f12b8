"""Personalization: which titles to show this member.

`facts` what is known; `loaders` files to facts; `recommenders` candidates from histories; `home` the decision.
(The lead writes loaders, recommenders and home.)
"""
