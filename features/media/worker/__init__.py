"""The process that decodes untrusted media, and the protocol that it speaks."""
