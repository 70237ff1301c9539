"""The choice of a build's configuration: actions, situations, policies, and the log of decisions.

In: a `BuildSituation`. Out: a logged `BuildDecision`; the reward is added to it when the build has ended.
"""
