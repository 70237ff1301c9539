"""The choice of a build's configuration: actions, situations, policies, and the log of decisions.

In: a `BuildSituation`. Out: a logged `BuildDecision`, to which the reward is added when the build has ended.
"""
