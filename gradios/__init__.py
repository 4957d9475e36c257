"""Pages in the browser that sample by the pipelines and functions of the run scripts.

python -m gradios                        # all pages, as tabs
python gradios/gradio_depth_image.py     # one of them
"""
