// The product of two matrices of 224 x 224 doubles, by the book.
#define N 224
double a[N][N], b[N][N], c[N][N];

__attribute__((export_name("canister_update run"))) void run(void) {
  for (int i = 0; i < N; i++)
    for (int j = 0; j < N; j++)
      a[i][j] = i + j, b[i][j] = i - j;
  for (int i = 0; i < N; i++)
    for (int j = 0; j < N; j++) {
      double sum = 0;
      for (int k = 0; k < N; k++)
        sum += a[i][k] * b[k][j];
      c[i][j] = sum;
    }
}
