// Command othersystems type-checks packages, with their tests, as they are on another system:
//
//	go run ./othersystems directory windows pattern ...
//
// It reads all that they import from source. go vet would have that compiled, from the standard library on. The
// directory is one of a module.
package main

import (
	"log"
	"os"

	"golang.org/x/tools/go/packages"
)

func main() {
	log.SetFlags(0)
	loaded, err := packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedImports | packages.NeedDeps | packages.NeedTypes |
			packages.NeedSyntax | packages.NeedTypesInfo,
		Dir:   os.Args[1],
		Env:   append(os.Environ(), "GOOS="+os.Args[2], "CGO_ENABLED=0"),
		Tests: true,
	}, os.Args[3:]...)
	if err != nil {
		log.Fatal(err)
	}
	if packages.PrintErrors(loaded) > 0 {
		os.Exit(1)
	}
}
