package run

import (
	"testing"

	"github.com/penstock/penstock"
)

func TestADeviceHasOneTypeWhoeverNamesIt(t *testing.T) {
	for product, want := range map[string]penstock.Resource{
		"NVIDIA H100 80GB HBM3":                  "h100",
		"NVIDIA-H100-80GB-HBM3":                  "h100",
		"NVIDIA H100 PCIe":                       "h100",
		"NVIDIA-H100-80GB-HBM3-SHARED":           "h100-shared",
		"NVIDIA-H100-80GB-HBM3-MIG-1g.10gb":      "h100-mig-1g-10gb",
		"NVIDIA-A100-SXM4-40GB-MIG-1g.5gb":       "a100-mig-1g-5gb",
		"NVIDIA A100-SXM4-40GB":                  "a100",
		"NVIDIA-GeForce-RTX-4090":                "rtx-4090",
		"NVIDIA-RTX-6000-Ada-Generation":         "rtx-6000-ada-generation",
		"nvidia-tesla-t4":                        "t4",
		"Tesla-V100-SXM2-32GB":                   "v100",
		"NVIDIA-L40S":                            "l40s",
		"NVIDIA H100 NVL":                        "h100",
		"NVIDIA H200":                            "h200",
		"NVIDIA A100 80GB PCIe":                  "a100",
		"NVIDIA L4":                              "l4",
		"NVIDIA L40S":                            "l40s",
		"Tesla T4":                               "t4",
		"Tesla V100-SXM2-16GB":                   "v100",
		"NVIDIA GeForce RTX 4090":                "rtx-4090",
		"NVIDIA RTX A6000":                       "rtx-a6000",
		"NVIDIA B200":                            "b200",
		"AMD_Instinct_MI300X_OAM":                "mi300x",
		"AMD Instinct MI210":                     "mi210",
		"  NVIDIA\t":                             "",
		"Intel(R) Data Center GPU Max 1550 (UP)": "intel-r-data-center-gpu-max-1550-up",
	} {
		if got := DeviceType(product); got != want {
			t.Errorf("%s is %q, want %q", product, got, want)
		}
	}
}
