package webui

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

// files are the style and script of our own, and under vendor what npm brought,
// where it did.
//
//go:embed all:assets
var files embed.FS

// Where things are below assets.
const (
	styleFile = "app.css"
	htmxFile  = "vendor/htmx.min.js"
	plotFile  = "vendor/uPlot.iife.min.js"
)

// assets are the files by their path below /assets/.
type assets struct {
	files map[string]assetFile
	// vendor says that htmx and uPlot are there.
	vendor bool
}

type assetFile struct {
	content []byte
	etag    string
}

func loadAssets(from fs.FS) (assets, error) {
	a := assets{files: map[string]assetFile{}}
	err := fs.WalkDir(from, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		a.files[strings.TrimPrefix(name, "assets/")] = assetFile{content, `"` + hex.EncodeToString(sum[:8]) + `"`}
		return nil
	})
	if err != nil {
		return a, fmt.Errorf("read assets: %w", err)
	}
	_, live := a.files[htmxFile]
	_, plots := a.files[plotFile]
	a.vendor = live && plots
	return a, nil
}

// style is the style sheet, for the login page.
func (a assets) style() string { return string(a.files[styleFile].content) }

// styleHash is the source expression that lets style through (CSP level 3,
// section 2.3.1).
func (a assets) styleHash() string {
	sum := sha256.Sum256(a.files[styleFile].content)
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// asset serves one file; a reader that has it already is told so.
func (s *site) asset(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/assets/")
	file, ok := s.assets.files[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	h.Set("Cache-Control", "private, no-cache")
	h.Set("ETag", file.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file.content))
}
