"""Other tools' doors into the library, one module each; importing this folder imports none."""
