package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock/penstock/internal/config"
)

// Each surface has tests of its own; this one holds that joining them under one
// address left no door open beside them.
func TestEverySurfaceDeniesWhoShowsNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "penstock-agent"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	c := config.Default()
	c.DataDir = filepath.Join(dir, "data")
	s, err := newServer(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	h := s.handler()
	for _, path := range []string{
		"/metrics", "/api/v1/jobs", "/api/openapi.json", "/api/", "/v1/models", "/v1/chat/completions", "/v1/completions", "/v1/embeddings",
		"/v1/nothing", "/", "/jobs", "/jobs/default/a", "/cost", "/pools", "/models", "/endpoints", "/nothing", "/debug/pprof/", "/debug/vars", "/healthz",
	} {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader("{}")))
			toLogin := w.Code == http.StatusSeeOther && strings.HasPrefix(w.Header().Get("Location"), "/login")
			if w.Code < 400 && !toLogin || w.Code >= 500 {
				t.Errorf("%s %s: %d %.200s", method, path, w.Code, w.Body)
			}
		}
	}
}
