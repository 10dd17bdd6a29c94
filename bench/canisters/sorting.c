// Quicksort of 300,000 numbers from a linear congruential generator, with insertion sort for short ranges.
typedef unsigned int u32;

#define COUNT 300000
u32 numbers[COUNT];

static void sort(int low, int high) {
  while (high - low > 16) {
    u32 pivot = numbers[(low + high) / 2];
    int i = low, j = high;
    while (i <= j) {
      while (numbers[i] < pivot)
        i++;
      while (numbers[j] > pivot)
        j--;
      if (i <= j) {
        u32 held = numbers[i];
        numbers[i++] = numbers[j];
        numbers[j--] = held;
      }
    }
    if (j - low < high - i) {
      sort(low, j);
      low = i;
    } else {
      sort(i, high);
      high = j;
    }
  }
  for (int i = low + 1; i <= high; i++) {
    u32 held = numbers[i];
    int j = i;
    for (; j > low && numbers[j - 1] > held; j--)
      numbers[j] = numbers[j - 1];
    numbers[j] = held;
  }
}

__attribute__((export_name("canister_update run"))) void run(void) {
  u32 seed = 1;
  for (int i = 0; i < COUNT; i++)
    numbers[i] = seed = seed * 1664525 + 1013904223;
  sort(0, COUNT - 1);
}
