package run

import (
	"slices"
	"strings"

	"github.com/penstock/penstock"
)

// plain are the words of a product's name that tell its maker, series or form.
// Those of another memory, link or cooling are still the same accelerator.
var plain = []string{"nvidia", "tesla", "geforce", "quadro", "pcie", "nvl", "amd", "instinct", "oam"}

// DeviceType makes a resource's name of what a vendor calls the product, the
// same for every executor: "NVIDIA H100 80GB HBM3" and "NVIDIA-H100-80GB-HBM3"
// are "h100", "Tesla T4" is "t4", "AMD_Instinct_MI300X_OAM" is "mi300x",
// "NVIDIA GeForce RTX 4090" is "rtx-4090". A part of a device is told with its
// size: "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb" is "a100-mig-1g-5gb". A name without
// a word that counts gives "".
func DeviceType(product string) penstock.Resource {
	words := strings.FieldsFunc(strings.ToLower(product), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.'
	})
	var kept []string
	for i, word := range words {
		if word == "mig" {
			kept = append(kept, words[i:]...)
			break
		}
		form := strings.HasSuffix(word, "gb") || strings.HasPrefix(word, "hbm") || strings.HasPrefix(word, "sxm")
		if !form && !slices.Contains(plain, word) {
			kept = append(kept, word)
		}
	}
	return penstock.Resource(strings.ReplaceAll(strings.Join(kept, "-"), ".", "-"))
}
