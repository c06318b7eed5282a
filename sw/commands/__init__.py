"""The commands of ``tessera``, one file each; heavy imports happen inside, so that help answers at once."""
