"""Tests of ``facade/ask``: fakes of the models, real servers."""
