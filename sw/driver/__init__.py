"""Driver of a board over its serial port: load a program, run pictures, read results and counters.

::

    from tessera.sw.driver.device import Device
    from tessera.sw.driver.transport import SerialTransport

    with Device(SerialTransport("/dev/ttyUSB0", 3_000_000)) as device:
        device.load(program)
        print(device.run(program, task=0, image=image).output)
"""
