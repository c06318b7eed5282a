"""What several tests share: bus models, random models, an emulator of the commands."""
