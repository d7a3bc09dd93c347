def write(options, chosen, record_path):
    pass
