"""The suites that a backend must pass: plain classes of async tests, to be subclassed.

A store passes all of the suites over `StoreSuite`, a provider all of those over
`ProviderSuite`; each says there how one is made. Nothing here imports a test runner.
"""
