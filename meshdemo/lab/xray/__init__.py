"""Why a call went where it went: what the Envoys said of it, joined, named and explained.

Nothing here decides where a call goes, or changes what an Envoy gets, but for the names of rules.
"""
