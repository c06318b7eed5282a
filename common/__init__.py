"""What every part of the project uses: files written aside, one cache, and the tools of this machine. It imports
nothing of the project.
"""
