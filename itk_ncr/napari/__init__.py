"""Plugin for napari: opens images in physical space and registers two layers.

Needs the extra: ``pip install 'itk_ncr[napari]'``, and a Qt binding for napari itself. ``layers``
knows neither napari nor Qt; ``widget`` is imported by napari when it is opened.
"""
