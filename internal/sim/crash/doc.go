// Package crash holds one kind of test: a real server with real agents and real
// work is killed with kill -9, again and again, and nothing may be lost, done
// twice or left over. What package sim shows in virtual time with goroutines,
// this shows with processes, files and sockets.
//
// The long test takes the tour's way: prepare a dataset, train a gang with
// PyTorch, evaluate, approve, promote, serve with llama.cpp. It prints its seed
// and what it killed; two variables change it:
//
//	PENSTOCK_CRASH_SEED   the seed of which process is killed, and after how long
//	PENSTOCK_CRASH_KILLS  how many kills; default 30
//
// The seed fixes what the killer asks for, not what the machine happens to be
// doing at that moment. Without PyTorch or the llama.cpp libraries the long
// test is skipped, or with PENSTOCK_CI set it fails.
package crash
