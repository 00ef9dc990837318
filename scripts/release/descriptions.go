package main

import (
	"bytes"
	"context"
	"embed"
	"text/template"
)

//go:embed templates
var templateFiles embed.FS

// descriptions are what package managers install the archives by.
var descriptions = []string{"aadpool.rb", "aadpool.json"}

// writeDescriptions writes them with the archives' addresses and checksums.
func (r *release) writeDescriptions(context.Context) error {
	for _, name := range descriptions {
		text, err := r.describe(name)
		if err != nil {
			return err
		}
		if err := r.write(name, text); err != nil {
			return err
		}
	}
	return nil
}

func (r *release) describe(name string) ([]byte, error) {
	functions := template.FuncMap{
		"url": func(os, arch string) string {
			return "https://" + root + "/releases/download/" + r.version + "/" + r.archiveName(target{os, arch})
		},
		"sha256": func(os, arch string) (string, error) { return r.checksum(r.archiveName(target{os, arch})) },
	}
	parsed, err := template.New(name+".tmpl").Funcs(functions).ParseFS(templateFiles, "templates/"+name+".tmpl")
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = parsed.Execute(&text, map[string]string{
		"Version": r.number(), "Homepage": "https://" + root, "Revision": r.modules})
	return text.Bytes(), err
}
