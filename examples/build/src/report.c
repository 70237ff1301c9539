#include <stdio.h>
#include <stdlib.h>
#include "report.h"

int main(int count, char **words) {
    int day = count > 1 ? atoi(words[1]) : 1;
    printf("total %d\n", stock(day) + prices(day) + orders(day));
    return 0;
}
