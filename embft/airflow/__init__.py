"""What Airflow needs to run the stages: operators, pods, links, forms. The only package that imports Airflow.

It knows configs, paths and results, and nothing that trains or validates: the work is in the command that it starts.
"""
