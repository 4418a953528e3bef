from benchmarks.suite import *
import json,sys
if __name__ == "__main__":
    print(json.dumps(measure(set(sys.argv[2:]), QUICK if sys.argv[1]=="q" else FULL), indent=1))
