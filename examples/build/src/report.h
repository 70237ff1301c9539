#ifndef REPORT_H
#define REPORT_H
int stock(int day);
int prices(int day);
int orders(int day);
#endif
