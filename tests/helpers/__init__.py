"""What tests share: media, stores, encoders and heads made small."""
