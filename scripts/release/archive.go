package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// file is one in an archive or in a layer of the image.
type file struct {
	name string
	mode int64
	text []byte
}

// packAll writes an archive and a list of modules for each binary, the chart, and the checksums of all.
func (r *release) packAll(ctx context.Context) error {
	common, err := r.commonFiles(ctx)
	if err != nil {
		return err
	}
	for _, b := range r.built {
		program, err := os.ReadFile(b.path)
		if err != nil {
			return err
		}
		licenses, err := r.licenses(ctx, b)
		if err != nil {
			return err
		}
		files := append([]file{{b.program(), 0o755, program}, {"THIRD-PARTY-LICENSES", 0o644, licenses}}, common...)
		archive, err := pack(b.target, files, r.epoch)
		if err != nil {
			return err
		}
		inventory, err := r.inventory(b)
		if err != nil {
			return err
		}
		err = firstError(r.write(r.archiveName(b.target), archive), r.write(r.inventoryName(b.target), inventory))
		if err != nil {
			return err
		}
	}
	if err := r.packChart(); err != nil {
		return fmt.Errorf("the chart: %w", err)
	}
	return r.writeChecksums()
}

func (r *release) write(name string, text []byte) error {
	return os.WriteFile(filepath.Join(r.out, name), text, 0o644)
}

// number is the version without its v, as other programs than Go write it.
func (r *release) number() string { return strings.TrimPrefix(r.version, "v") }

func (r *release) archiveName(t target) string {
	name := "aadpool_" + r.number() + "_" + t.String()
	if t.os == "windows" {
		return name + ".zip"
	}
	return name + ".tar.gz"
}

// commonFiles are those of every archive: the license, the manual page, and each shell's completions.
func (r *release) commonFiles(ctx context.Context) ([]file, error) {
	license, err := os.ReadFile(filepath.Join(r.src, "LICENSE"))
	if err != nil {
		return nil, err
	}
	here := slices.IndexFunc(r.built, func(b binary) bool { return b.isHere() })
	if here < 0 {
		return nil, fmt.Errorf("no binary runs on this machine, which writes the manual page and the completions")
	}
	program := r.built[here].path
	manual, err := output(ctx, "", nil, program, "man")
	if err != nil {
		return nil, err
	}
	// The page names the system that it was written on, and is one for all.
	manual = strings.ReplaceAll(manual, ", "+r.built[here].info.GoVersion+" "+r.built[here].os+"/"+r.built[here].arch, "")
	files := []file{{"LICENSE", 0o644, license}, {"man/aadpool.1", 0o644, []byte(manual + "\n")}}
	for shell, name := range map[string]string{
		"bash": "aadpool.bash", "zsh": "aadpool.zsh", "fish": "aadpool.fish", "powershell": "aadpool.ps1",
	} {
		script, err := output(ctx, "", nil, program, "completion", shell)
		if err != nil {
			return nil, err
		}
		text, err := forAnyPath(script, program)
		if err != nil {
			return nil, fmt.Errorf("completions of %s: %w", shell, err)
		}
		files = append(files, file{"completions/" + name, 0o644, []byte(text + "\n")})
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return files, nil
}

// forAnyPath has a script that a program has written with its own path find the program on PATH.
func forAnyPath(script, program string) (string, error) {
	slashes := filepath.ToSlash(program)
	text := strings.NewReplacer("'"+slashes+"'", "aadpool", slashes, "aadpool").Replace(script)
	if text == script {
		return "", fmt.Errorf("the script does not name %s, which is to become aadpool", slashes)
	}
	return text, nil
}

// pack makes the archive that people on the target expect: the same bytes of the same files.
func pack(t target, files []file, at time.Time) ([]byte, error) {
	if t.os == "windows" {
		return packZip(files, at)
	}
	var out bytes.Buffer
	compressed, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if err := firstError(writeTar(compressed, files, at), compressed.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// writeTar writes files that belong to root and were made at one time.
func writeTar(w io.Writer, files []file, at time.Time) error {
	archive := tar.NewWriter(w)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.text)), ModTime: at, Format: tar.FormatUSTAR}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(f.text); err != nil {
			return err
		}
	}
	return archive.Close()
}

func packZip(files []file, at time.Time) ([]byte, error) {
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	for _, f := range files {
		header := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: at}
		header.SetMode(os.FileMode(f.mode))
		w, err := archive.CreateHeader(header)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(f.text); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

const checksumsName = "SHA256SUMS"

// writeChecksums writes those of all that has been packed, as sha256sum --check reads them.
func (r *release) writeChecksums() error {
	names := []string{r.chartName()}
	for _, t := range targets {
		names = append(names, r.archiveName(t), r.inventoryName(t))
	}
	var lines strings.Builder
	for _, name := range names {
		sum, err := r.checksum(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(&lines, "%s  %s\n", sum, name)
	}
	return r.write(checksumsName, []byte(lines.String()))
}

func (r *release) checksum(name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(r.out, name))
	return fmt.Sprintf("%x", sha256.Sum256(text)), err
}
